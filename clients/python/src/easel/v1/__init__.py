"""The contract easel.v1: generated, see regenerate.py."""
