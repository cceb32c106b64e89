"""The front before Triton: it alone is reached by clients, checks what they ask for, and passes on what is in order.

Only inference, health, metadata, configuration, statistics and the list of models pass. Triton itself listens on a
socket in a folder of this user's, over gRPC alone; its HTTP, its metrics port, and its calls that load models, share
memory, trace and change the log are reached by nobody.

Public: Front (front), Access (access), Refused (refused).
"""
