from cloze.cli import compare

if __name__ == "__main__":
    compare()
