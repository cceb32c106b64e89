"""The Triton server: installed, started, watched, deployed."""
