"""Tiles: pixels from a file, once a size; random transforms of whole batches."""
from .augment import (TfmParams, Transforms, dihedral_matrix, get_transforms, relight, resample,
                      rotation_matrix, symmetry, warp_matrix, zoom_matrix)
from .cache import TileCache, clear_cache
from .image import (NamedBytes, PictureRefused, decode, fit_window, naming_the_picture, open_picture,
                    open_source, resize, stored_size)

__all__ = [
    'NamedBytes', 'PictureRefused', 'TfmParams', 'TileCache', 'Transforms', 'clear_cache', 'decode',
    'dihedral_matrix', 'fit_window', 'get_transforms', 'naming_the_picture', 'open_picture', 'open_source',
    'relight', 'resample', 'resize', 'rotation_matrix', 'stored_size', 'symmetry', 'warp_matrix',
    'zoom_matrix',
]
