"""What the instrument wrote about a micrograph (being written: signatures first)."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InstrumentMetadata:
    """What the instrument tells about one micrograph; None where it does not."""

    pixel_size_nm: float | None = None
    acquired_at: str | None = None
    """ISO 8601, local time of the instrument."""
    detector: str | None = None
    voltage_kv: float | None = None
    instrument: str | None = None
    scan_height_px: int | None = None
    """Rows of the scan; the data bar lies below."""
