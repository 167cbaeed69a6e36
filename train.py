from cloze.cli import train

if __name__ == "__main__":  # processes that tokenise or feed a run import this file too
    train()
