"""Banks: uint8 images of one size that sources gather from, on the device the batch is on.

A bank is not a module and holds no parameter, so it never reaches a ``state_dict``. It is
immutable: copies are the same object, derived tensors are computed once, workers share its pixels.
A bank from a folder is a map of a cache file: processes share the page cache, and pickling it sends
the file's name. The pixels of a bank in memory move to shared memory when torch sends it to another
process. Reading folders is the business of :mod:`.imagefolder`, the cache's files that of
:mod:`.cachefile`.
"""

from .bank import Bank
from .donorbank import DonorBank
from .shapebank import ShapeBank
from .texturebank import TextureBank

__all__ = ["Bank", "DonorBank", "ShapeBank", "TextureBank"]
