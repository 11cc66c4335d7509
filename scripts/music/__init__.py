"""The music of `render_corpus.py`: a compact notation, its performance as MIDI, and two ways to make it sound."""
