"""Sentences to embed: those that ranges are found on share neither pattern nor words with the evaluated ones.

They are put together from patterns and words by a seeded generator: statements, questions, commands, lists,
numbers, short and long. Knows nothing of fxquant.
"""

import random

EVALUATED, CALIBRATED = 200, 64

_PATTERNS = (
    (
        "The {who} {did} the {what} {when}.",
        "Why did nobody tell the {who} about the {what}?",
        "{when_}, a {quality} {what} was found near the {place}.",
        "Please {do} the {what} before you leave the {place}.",
        "I never thought that a {what} could be so {quality}, but the {who} proved me wrong {when}.",
        "{number} people visited the {place} {when}, more than ever before.",
        "{quality_} {what}, hardly used, {number} euros.",
        "According to the {who}, the {place} will stay closed until the {what} has been repaired and tested.",
        "How long does it take to {do} a {what}?",
        "The {place} is {quality}.",
        "Our {who} wrote a paper on the {what} which explains, in {number} pages, "
        "what went wrong at the {place}.",
        "{do_} it.",
    ),
    (
        "{when_} the {who} will {do} another {what}.",
        "Is the {place} far from here?",
        "A {quality} {who} {did} {number} of them and gave the {what} away.",
        "Nobody at the {place} knew how to {do} the {what}, so the {who} had to come back {when}.",
        "Not {quality} at all!",
        "It costs {number} dollars to {do} a {what} at the {place}.",
        "The {what}, the {who} and the {place}: a {quality} story.",
        "We {did} it {when}.",
    ),
)
_WORDS = (
    {
        "who": [
            "gardener",
            "minister",
            "violinist",
            "nurse",
            "astronomer",
            "taxi driver",
            "goalkeeper",
            "translator",
            "judge",
            "baker",
        ],
        "did": [
            "painted",
            "lost",
            "measured",
            "sold",
            "described",
            "stole",
            "rebuilt",
            "ignored",
            "photographed",
            "postponed",
        ],
        "do": [
            "clean",
            "deliver",
            "inspect",
            "cancel",
            "translate",
            "weigh",
            "borrow",
            "assemble",
            "heat",
            "record",
        ],
        "what": [
            "telescope",
            "contract",
            "bicycle",
            "recipe",
            "vaccine",
            "manuscript",
            "engine",
            "carpet",
            "election",
            "password",
        ],
        "place": [
            "harbour",
            "museum",
            "airport",
            "monastery",
            "stadium",
            "laboratory",
            "border",
            "vineyard",
            "library",
            "quarry",
        ],
        "quality": [
            "fragile",
            "expensive",
            "silent",
            "enormous",
            "outdated",
            "bitter",
            "transparent",
            "famous",
            "reliable",
            "rusty",
        ],
        "when": [
            "last winter",
            "on Tuesday",
            "after the storm",
            "in 1987",
            "at noon",
            "during the strike",
            "every spring",
        ],
    },
    {
        "who": ["teacher", "farmer", "pilot", "dentist", "poet", "sailor", "lawyer", "chemist"],
        "did": ["bought", "repaired", "hid", "explained", "carried", "burned", "wanted", "forgot"],
        "do": ["open", "paint", "send", "finish", "eat", "move", "fix", "explain"],
        "what": ["letter", "boat", "song", "window", "theorem", "sandwich", "satellite", "invoice"],
        "place": ["station", "forest", "hospital", "market", "bridge", "school", "island", "factory"],
        "quality": ["small", "wonderful", "dangerous", "green", "ancient", "simple", "noisy", "warm"],
        "when": ["yesterday", "next week", "in the evening", "long ago", "before dawn", "tomorrow"],
    },
)


def evaluated_sentences() -> list[str]:
    """Return the 200 sentences that accuracy is measured on."""
    return _made(0, EVALUATED)


def calibration_sentences() -> list[str]:
    """Return the 64 sentences that ranges are found on."""
    return _made(1, CALIBRATED)


def _made(which: int, count: int) -> list[str]:
    chooser = random.Random(which)  # no secret
    made: dict[str, None] = {}
    while len(made) < count:
        words = {kind: chooser.choice(words) for kind, words in _WORDS[which].items()}
        words |= {f"{kind}_": _capital(word) for kind, word in words.items()}
        pattern = _PATTERNS[which][chooser.randrange(len(_PATTERNS[which]))]
        made[_capital(pattern.format(number=chooser.randrange(2, 9000), **words))] = None
    return list(made)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
