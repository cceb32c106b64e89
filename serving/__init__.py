"""Serve a painter: export (snapshot -> ONNX in a model repository), server (a real Triton), client (seeds in, pictures
out), style and style_check (what style a painter paints in), gallery (a web page), loop (all of Salon as one file).
"""
