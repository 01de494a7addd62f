"""Script and language of a text, as far as its letters and most frequent words tell."""

import re
from bisect import bisect_right
from collections import Counter

LOOKED_AT = 1500
"""Characters from the start of a text that are looked at."""
MIN_LETTERS = 12
MIN_SHARE = 0.7
"""A script is a text's own if it has this share of the letters."""
MIN_KANA = 0.1
"""From this share of Kana on, a text is Japanese."""
MIN_WORDS = 8
"""Words of a text by which its language can be told."""

_BLOCKS = (
    (0x0041, "Latin"),
    (0x0370, "Greek"),
    (0x0400, "Cyrillic"),
    (0x0530, "Armenian"),
    (0x0590, "Hebrew"),
    (0x0600, "Arabic"),
    (0x0700, ""),
    (0x0900, "Devanagari"),
    (0x0980, "Bengali"),
    (0x0A00, "Gurmukhi"),
    (0x0A80, "Gujarati"),
    (0x0B00, ""),
    (0x0B80, "Tamil"),
    (0x0C00, "Telugu"),
    (0x0C80, "Kannada"),
    (0x0D00, "Malayalam"),
    (0x0D80, "Sinhala"),
    (0x0E00, "Thai"),
    (0x0E80, "Lao"),
    (0x0F00, ""),
    (0x1000, "Myanmar"),
    (0x10A0, "Georgian"),
    (0x1100, "Hangul"),
    (0x1200, "Ethiopic"),
    (0x1380, ""),
    (0x1780, "Khmer"),
    (0x1800, ""),
    (0x1E00, "Latin"),
    (0x1F00, "Greek"),
    (0x2000, ""),
    (0x3040, "Kana"),
    (0x3100, ""),
    (0x3400, "Han"),
    (0xA000, ""),
    (0xAC00, "Hangul"),
    (0xD7B0, ""),
    (0xF900, "Han"),
    (0xFB00, ""),
    (0x20000, "Han"),
    (0x32000, ""),
)
_STARTS = [start for start, _ in _BLOCKS]
_OTHER_SCRIPT = re.compile(r"[\u0370-\u1dff\u3040-\ud7af\uf900-\ufaff\U00020000-\U00031fff]")

_FREQUENT = {
    "English": "the of and to is you that it for are with this have be or not can your they but",
    "German": "der die das und ist nicht ein eine zu den mit sich auf für von dem sie ich wie",
    "French": "le la les des est une pour que dans pas vous sur qui avec ce au du il et sont",
    "Spanish": "el los las una que por para con del se es está como más pero su lo y en son",
    "Portuguese": "o os uma que não com para por mais do da em é você são ao dos as um como",
    "Italian": "il gli una che non per con del della sono è di più come anche questo nel si le",
    "Dutch": "de het een van en is niet dat op te zijn met voor je ook maar aan er om wordt",
    "Polish": "nie się jest na że do to jak co dla ale tak ich przez oraz może są który od za",
    "Turkish": "bir ve bu için ile de da çok olarak daha gibi olan ne var değil kadar sonra ama",
    "Indonesian": "yang dan di untuk dengan ini itu dari pada tidak dalam adalah akan atau saya",
}
_LANGUAGES: dict[str, tuple[str, ...]] = {}
for _language, _words in _FREQUENT.items():
    for _word in _words.split():
        _LANGUAGES[_word] = (*_LANGUAGES.get(_word, ()), _language)
_ENGLISH = (" the ", " you ", " and ", " that ", " your ", " with ", " are ", " have ", " this ")
"""Words that English alone has; in this order most English texts have one of the first."""
_BEGINNING = 160
"""Characters that tell whether a text is in Latin letters."""
_MIN_TOLD = 40
"""Characters of a text whose language can be told."""


def difference(first: str, second: str) -> str | None:
    """How two texts differ in script or language: "Latin / Cyrillic", "English / German".

    None where they do not, or where one is too short to tell.
    """
    if not (_is_latin(first) and _is_latin(second)):
        scripts = main_script(first), main_script(second)
        if None in scripts:
            return None
        if scripts[0] != scripts[1]:
            return f"{scripts[0]} / {scripts[1]}"
        if scripts[0] != "Latin":
            return None
    if min(len(first), len(second)) < _MIN_TOLD:
        return None
    is_english = _is_plainly_english(first), _is_plainly_english(second)
    if all(is_english):
        return None
    languages = [
        "English" if is_plain else main_language(text)
        for is_plain, text in zip(is_english, (first, second), strict=True)
    ]
    if None in languages or languages[0] == languages[1]:
        return None
    return f"{languages[0]} / {languages[1]}"


def main_script(text: str) -> str | None:
    """The script of most letters; None if there are few letters, or none has most of them."""
    scripts: Counter[str] = Counter()
    for character, times in Counter(text[:LOOKED_AT]).items():
        if character.isalpha():
            place = bisect_right(_STARTS, ord(character)) - 1
            scripts[_BLOCKS[place][1]] += times
    if not scripts:
        return None
    if scripts["Kana"] > MIN_KANA * scripts.total():
        # Japanese mixes Kana and Han, and the mixture differs from text to text.
        scripts["Japanese"] = scripts.pop("Kana") + scripts.pop("Han", 0)
    name, letters = scripts.most_common(1)[0]
    # A word is a character or two where scripts have no spaces.
    enough = MIN_LETTERS if name == "Latin" else MIN_LETTERS // 2
    return name if name and letters >= max(enough, MIN_SHARE * scripts.total()) else None


def main_language(text: str) -> str | None:
    """The language of a text in Latin letters, by its most frequent words; None in doubt."""
    words = re.findall(r"[^\W\d_]+", text[:LOOKED_AT].lower())
    if len(words) < MIN_WORDS:
        return None
    found: Counter[str] = Counter()
    for word in words:
        found.update(_LANGUAGES.get(word, ()))
    ranked = [*found.most_common(2), ("", 0), ("", 0)]
    (language, first), (_, second) = ranked[:2]
    return language if first >= max(3, 0.12 * len(words)) and first >= 2 * second else None


def _is_latin(text: str) -> bool:
    """Whether a text begins with no letters but Latin ones."""
    return text.isascii() or not _OTHER_SCRIPT.search(text, 0, _BEGINNING)


def _is_plainly_english(text: str) -> bool:
    for word in _ENGLISH:  # noqa: SIM110 - any() takes twice the time
        if word in text:
            return True
    return False
