"""Quote mode: text in quotation marks is verbatim in a store, with its place there.

    index = QuoteIndex.of_memory(memory)
    index.check('As it says, "so much depends".')      # every quotation with its places
    index.repair(answer).text                          # wrong ones mended or unmarked
    constraint = index.constraint(pieces)              # generation can write no wrong one

It promises "consistent with this store", never truth.
"""

from solomonic.memory.quotes.constraint import QuoteConstraint as QuoteConstraint
from solomonic.memory.quotes.corpus import SourceText as SourceText
from solomonic.memory.quotes.corpus import Span as Span
from solomonic.memory.quotes.index import Change as Change
from solomonic.memory.quotes.index import QuoteIndex as QuoteIndex
from solomonic.memory.quotes.index import QuoteVerdict as QuoteVerdict
from solomonic.memory.quotes.index import Repaired as Repaired
from solomonic.memory.quotes.marks import Quotation as Quotation
from solomonic.memory.quotes.marks import QuoteConfig as QuoteConfig
from solomonic.memory.quotes.marks import quotations as quotations
