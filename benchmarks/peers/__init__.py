"""Rules of other tools, re-implemented from their documentation, on estates whose truth is known.

None of these tools judges Azure Machine Learning; each rule is given the same CPU use, memory and
bill of each compute that the product collected, and the benefit of the doubt where a rule asks for
what Azure does not tell (network). Each module names what it was written from.
"""
