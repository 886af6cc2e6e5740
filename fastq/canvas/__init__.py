"""Workflows: signatures of tasks, and chains, groups and chords of them."""

from fastq.canvas.maps import chunks, xmap, xstarmap
from fastq.canvas.primitives import chain, chord, group
from fastq.canvas.signature import Signature, maybe_signature, maybe_subtask, signature, subtask
from fastq.canvas.stamping import StampingVisitor

# Celery's names of the classes, by which its users tell what a signature is.
_chain = chain
_chord = chord

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
