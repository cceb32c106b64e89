"""The style classifier, and the check of a generator's images by it.

Public: train (train), check (check), Classifier (onnx_classifier), open_paintings (dataset), Errors and corrected
(prevalence), StyleTrainingRequest and StyleCheckRequest (request).
"""
