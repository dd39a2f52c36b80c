"""Templates that hold numbers -> the numbers as they are read: measures, values, fractions.

They are what other extractors lose: "at a height of. The land consists of of forest".
"""

import re
from collections.abc import Mapping, Sequence

SUPERSCRIPTS = str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ")
SUBSCRIPTS = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
RAISED = re.compile(r"[0-9+\-−=()n]+")
LOWERED = re.compile(r"[0-9+\-−=()]+")
NUMBER = re.compile(r"[-−+]?[\d.,/+⁄ ]*\d[\d.,/⁄]*")
PLAIN_NUMBER = re.compile(r"([-−]?)(\d+)(\.\d+)?")
RANGES = {
    "to": " to ", "and": " and ", "or": " or ", "by": " by ", "-": "–", "–": "–",
    "x": " × ", "×": " × ", "*": " × ", "xx": " × ", "+/-": " ± ", "±": " ± ", "+": " + ",
    "&ndash;": "–", "+/−": " ± ",
}  # fmt: skip
# Code -> symbol, one, many. What is not here is written as its code, which is a symbol too.
UNITS: Mapping[str, tuple[str, str, str]] = {
    "mi": ("mi", "mile", "miles"),
    "km": ("km", "kilometre", "kilometres"),
    "m": ("m", "metre", "metres"),
    "cm": ("cm", "centimetre", "centimetres"),
    "mm": ("mm", "millimetre", "millimetres"),
    "ft": ("ft", "foot", "feet"),
    "in": ("in", "inch", "inches"),
    "yd": ("yd", "yard", "yards"),
    "nmi": ("nmi", "nautical mile", "nautical miles"),
    "km2": ("km²", "km²", "km²"),
    "m2": ("m²", "m²", "m²"),
    "cm2": ("cm²", "cm²", "cm²"),
    "sqkm": ("km²", "km²", "km²"),
    "sqmi": ("sq mi", "square mile", "square miles"),
    "mi2": ("sq mi", "square mile", "square miles"),
    "sqft": ("sq ft", "square foot", "square feet"),
    "sqyd": ("sq yd", "square yard", "square yards"),
    "acre": ("acre", "acre", "acres"),
    "ha": ("ha", "hectare", "hectares"),
    "e6acre": ("million acres", "million acres", "million acres"),
    "m3": ("m³", "m³", "m³"),
    "km3": ("km³", "km³", "km³"),
    "cuft": ("cu ft", "cubic foot", "cubic feet"),
    "Tcuft": ("trillion cu ft", "trillion cubic feet", "trillion cubic feet"),
    "l": ("l", "litre", "litres"),
    "L": ("L", "litre", "litres"),
    "USgal": ("US gal", "US gallon", "US gallons"),
    "impgal": ("imp gal", "imperial gallon", "imperial gallons"),
    "kg": ("kg", "kilogram", "kilograms"),
    "g": ("g", "gram", "grams"),
    "t": ("t", "tonne", "tonnes"),
    "lb": ("lb", "pound", "pounds"),
    "lbs": ("lb", "pound", "pounds"),
    "oz": ("oz", "ounce", "ounces"),
    "st": ("st", "stone", "stone"),
    "LT": ("long tons", "long ton", "long tons"),
    "ST": ("short tons", "short ton", "short tons"),
    "km/h": ("km/h", "km/h", "km/h"),
    "mph": ("mph", "mile per hour", "miles per hour"),
    "kn": ("kn", "knot", "knots"),
    "m/s": ("m/s", "metre per second", "metres per second"),
    "C": ("°C", "°C", "°C"),
    "F": ("°F", "°F", "°F"),
    "K": ("K", "K", "K"),
    "hp": ("hp", "horsepower", "horsepower"),
    "kW": ("kW", "kilowatt", "kilowatts"),
    "PD/sqmi": ("per square mile", "per square mile", "per square mile"),
    "PD/km2": ("per km²", "per km²", "per km²"),
    "/sqmi": ("per square mile", "per square mile", "per square mile"),
    "/km2": ("per km²", "per km²", "per km²"),
    "km²": ("km²", "km²", "km²"),
    "°F": ("°F", "°F", "°F"),
    "°C": ("°C", "°C", "°C"),
}
# Units that together measure one thing: 6 ft 4 in.
COMPOUND = {("ft", "in"), ("yd", "ft"), ("mi", "yd"), ("lb", "oz"), ("st", "lb"), ("mi", "ft")}


def convert(values: Sequence[str], named: Mapping[str, str]) -> str:
    """A measure in the unit in which it was given: `{{convert|5|to|10|km|mi}}`.

    >>> convert(["5", "to", "10", "km", "mi"], {}), convert(["6", "ft", "4", "in", "cm"], {})
    ('5 to 10 kilometres', '6 feet 4 inches')
    """
    rest = list(values)
    number = ""
    last = "1"
    while rest and (not number or _is_number(rest[0])):
        last = rest.pop(0)
        number += last
        if len(rest) < 2 or rest[0] not in RANGES or not _is_number(rest[1]):
            break
        number += RANGES[rest.pop(0)]
    if not rest:
        return number
    unit = rest.pop(0)
    told = _measured(number, last, unit, named)
    while len(rest) > 1 and (unit, rest[1]) in COMPOUND and _is_number(rest[0]):
        value, unit = rest[:2]
        told += " " + _measured(value, value, unit, named)
        del rest[:2]
    return told


def value(values: Sequence[str], named: Mapping[str, str]) -> str:
    """A number with its uncertainty, power and unit: `{{val|1.00794|(7)|e=3|u=kg}}`.

    >>> value(["6.24", "0.02"], {"e": "18", "u": "C"})
    '6.24±0.02×10¹⁸ C'
    """
    number, *doubts = values or ("",)
    if doubts and doubts[0]:
        number += doubts[0] if doubts[0].startswith("(") else f"±{doubts[0]}"
    if power := named.get("e"):
        number += times_ten(power)
    unit = next((named[key] for key in ("u", "ul", "up", "upl") if named.get(key)), "")
    number = f"{named.get('p', '')}{number}{named.get('s', '')}"
    return f"{number} {unit}".strip()


def grouped(number: str, language: str) -> str:
    """`{{formatnum:1234567}}` as the wiki shows it, where we know how: 1,234,567 in English."""
    plain = PLAIN_NUMBER.fullmatch(number.strip())
    if plain is None or language not in ("en", "simple"):
        return number.strip()
    return f"{plain[1]}{int(plain[2]):,}{plain[3] or ''}"


def fraction(values: Sequence[str]) -> str:
    """`{{frac|1|2}}` as 1/2, `{{frac|3|1|2}}` as 3 1/2."""
    match [one for one in values if one]:
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below, *_]:
            return f"{whole} {above}/{below}"
        case _:
            return ""


def times_ten(power: str) -> str:
    """A power of ten behind a number."""
    return f"×10{raised(power)}"


def raised(text: str) -> str:
    """Superscript, where it changes what a number means: 10⁶, but 1st."""
    return text.translate(SUPERSCRIPTS) if RAISED.fullmatch(text) else text


def lowered(text: str) -> str:
    """Subscript: H₂O."""
    return text.translate(SUBSCRIPTS) if LOWERED.fullmatch(text) else text


def chemical(values: Sequence[str]) -> str:
    """`{{chem|H|2|O}}` as H₂O."""
    return "".join(lowered(one) for one in values)


def _measured(number: str, last: str, unit: str, named: Mapping[str, str]) -> str:
    symbol, one, many = UNITS.get(unit, (unit, unit, unit))
    if named.get("abbr") in ("on", "in", "values"):
        name = symbol
    elif named.get("adj") in ("on", "mid") or named.get("sing") == "on":
        return f"{number}-{one}" if one.isalpha() else f"{number} {symbol}"
    else:
        name = one if last == "1" else many
    return f"{number}{name}" if name.startswith("°") else f"{number} {name}".rstrip()


def _is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None
