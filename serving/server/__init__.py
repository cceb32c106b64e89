"""The Triton server: installed, started, watched, stopped, deployed.

Public: serve and Server (server), ServeRequest (request), find and bundled (install), render (deployment).
"""
