"""Getting tiles: synthetic ones, and every route to the real ones."""
from .archives import (alone_in, archive_kind, archive_members, clear_leftovers, reading_archive, unpack,
                       untar_data)
from .canvas import (Canvas, blend, draw_shapes, pick_colour, ragged_hill, smooth_noise, soft_step,
                     winding_line)
from .download import (body_of, fetch, in_time, keep_trying, open_url, read_note, send_safely,
                       without_secrets)
from .errors import (ARCHIVE_SIZES, BadCredentialsError, COMPETITION, Config, CorruptError, DATA_PAGE,
                     DataError, DiskFullError, FileGoneError, MIRROR, NoCredentialsError, NoTilesError,
                     OfflineError, RateLimitedError, RulesNotAcceptedError, SAME_LINE_AGAIN, URLs,
                     UnsafeArchiveError, room_in)
from .kaggle import SUBMISSIONS_PAGE, ScoreAnswer, ask_for_score, fetch_from_kaggle, hand_in, start_upload
from .layers import render_tile
from .layout import (LABELS, TABLES, TILE_COUNTS, check_layout, find_tiles, is_complete, place_of,
                     which_table)
from .planet import planet_data
from .sample import planet_synthetic

__all__ = [
    'ARCHIVE_SIZES', 'BadCredentialsError', 'COMPETITION', 'Canvas', 'Config', 'CorruptError', 'DATA_PAGE',
    'DataError', 'DiskFullError', 'FileGoneError', 'LABELS', 'MIRROR', 'NoCredentialsError', 'NoTilesError',
    'OfflineError', 'RateLimitedError', 'RulesNotAcceptedError', 'SAME_LINE_AGAIN', 'SUBMISSIONS_PAGE',
    'ScoreAnswer', 'TABLES', 'TILE_COUNTS', 'URLs', 'UnsafeArchiveError', 'alone_in', 'archive_kind',
    'archive_members', 'ask_for_score', 'blend', 'body_of', 'check_layout', 'clear_leftovers', 'draw_shapes',
    'fetch', 'fetch_from_kaggle', 'find_tiles', 'hand_in', 'in_time', 'is_complete', 'keep_trying',
    'open_url', 'pick_colour', 'place_of', 'planet_data', 'planet_synthetic', 'ragged_hill', 'read_note',
    'reading_archive', 'render_tile', 'room_in', 'send_safely', 'smooth_noise', 'soft_step', 'start_upload',
    'unpack', 'untar_data', 'which_table', 'winding_line', 'without_secrets',
]
