from cloze.cli import train

train()
