//! What every Easel service shares: configuration, telemetry, health, limits, drain, errors.
