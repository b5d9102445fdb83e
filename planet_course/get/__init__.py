"""Getting tiles: synthetic ones, and every route to the real ones."""
from .download import (BadCredentialsError, Config, CorruptError, DataError, DiskFullError, FileGoneError,
                       NoCredentialsError, NoTilesError, OfflineError, RateLimitedError,
                       RulesNotAcceptedError, SUBMISSIONS_PAGE, ScoreAnswer, URLs, UnsafeArchiveError,
                       ask_for_score, hand_in, keep_trying, planet_data, start_upload, untar_data)
from .sample import planet_synthetic

__all__ = [
    'BadCredentialsError', 'Config', 'CorruptError', 'DataError', 'DiskFullError', 'FileGoneError',
    'NoCredentialsError', 'NoTilesError', 'OfflineError', 'RateLimitedError', 'RulesNotAcceptedError',
    'SUBMISSIONS_PAGE', 'ScoreAnswer', 'URLs', 'UnsafeArchiveError', 'ask_for_score', 'hand_in',
    'keep_trying', 'planet_data', 'planet_synthetic', 'start_upload', 'untar_data',
]
