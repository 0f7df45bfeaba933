"""What the name of a VM size says: its family, its series and its name on the price list."""

import re

_NAME = re.compile(
    r"^standard_(?P<family>[a-z]+?)(?P<cores>\d+)(?:-\d+)?(?P<features>[a-z]*)(?P<rest>(?:_\w+)?)$",
    re.IGNORECASE,
)


def family(sku: str) -> str:
    """Return the quota family of a VM size.

    >>> family("Standard_DS3_v2"), family("STANDARD_NC24ads_A100_v4"), family("odd")
    ('standardDSv2Family', 'standardNCADSA100v4Family', 'odd')
    """
    found = _NAME.match(sku)
    if found is None:
        return sku
    rest = found["rest"].replace("_", "")
    version = re.sub(r"^(.*?)(V\d)$", lambda m: m[1] + m[2].lower(), rest.upper())
    return f"standard{(found['family'] + found['features']).upper()}{version}Family"


def family_words(sku: str) -> str:
    """Return the quota family as Azure's pages write it.

    >>> family_words("Standard_DS3_v2")
    'Standard DSv2 Family'
    """
    return f"Standard {family(sku).removeprefix('standard').removesuffix('Family')} Family"


def meter(sku: str) -> str:
    """Return a VM size as price lists and meters spell it.

    >>> meter("Standard_NC24ads_A100_v4")
    'NC24ads A100 v4'
    """
    return re.sub(r"^standard_", "", sku, flags=re.IGNORECASE).replace("_", " ")


def series(sku: str) -> str:
    """Return the series of a VM size, the sub-category of its meter.

    >>> series("Standard_DS3_v2"), series("Standard_NC6s_v3")
    ('DSv2 Series', 'NCSv3 Series')
    """
    return f"{family(sku).removeprefix('standard').removesuffix('Family')} Series"
