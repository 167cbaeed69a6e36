"""How a model goes on learning: which weights train, how fast, from when on, and what is added to them.

`ways` are the settings (conf/finetune), `course` carries them out, `low_rank`, `bottleneck` and `prompt` are what can be added.
"""
