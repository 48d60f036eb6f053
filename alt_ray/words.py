"""Label names as words. Knows nothing of prompts, entities or dictionaries."""


def split_camel_case(name: str) -> str:
    """Return a label name as words: "ApplyEyeMakeup" as "apply eye makeup", "brush_hair" as "brush hair".

    Words are lower-cased, acronyms ("TVShow", "3DPrinting") are not. A name with spaces is a phrase already, and
    only its underscores become spaces.
    """
    if any(char.isspace() for char in name.strip()):
        return " ".join(name.replace("_", " ").split())
    words = "".join(
        f" {char}" if _starts_word(name[i - 1 : i], char, name[i + 1 : i + 2]) else char for i, char in enumerate(name)
    )
    return " ".join(
        word if word.isupper() and len(word) > 1 else word.lower()
        for word in words.replace("_", " ").replace("-", " ").split()
    )


def _starts_word(before: str, char: str, after: str) -> bool:
    """Say whether `char` begins a word: the M of "eyeMakeup", the S of "TVShow", the 3 of "take360"."""
    if char.isupper():
        return before.islower() or ((before.isupper() or before.isdigit()) and after.islower())
    return char.isdigit() and before.islower()
