"""Export of a snapshot as ONNX models in a model repository for Triton.

Public: export (export), ExportRequest (request), ModelRepository (model_repository), and the texts of config.pbtxt
(model_config).
"""
