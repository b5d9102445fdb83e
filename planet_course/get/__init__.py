"""Getting tiles: synthetic ones, and every route to the real ones."""
from .download import (BadCredentialsError, Config, CorruptError, DataError, DiskFullError, FileGoneError,
                       NoCredentialsError, NoTilesError, OfflineError, RateLimitedError,
                       RulesNotAcceptedError, URLs, UnsafeArchiveError, planet_data, untar_data)
from .sample import planet_synthetic

__all__ = [
    'BadCredentialsError', 'Config', 'CorruptError', 'DataError', 'DiskFullError', 'FileGoneError',
    'NoCredentialsError', 'NoTilesError', 'OfflineError', 'RateLimitedError', 'RulesNotAcceptedError', 'URLs',
    'UnsafeArchiveError', 'planet_data', 'planet_synthetic', 'untar_data',
]
