"""The operators that StyleGAN2 is made of: bias_act, upfirdn2d, conv2d_resample, modulated_conv2d.

All take and return NCHW tensors of any floating dtype, and differentiate to any order. They are registered with torch
as custom operators (custom_op.py), so that torch.compile, torch.export and the ONNX exporter trace the networks.
"""
