"""A trained domain, taken elsewhere: ONNX, torch.export, the stock network's state_dict, PEFT's format, a model hub.

deployable   what leaves madlab: one plain network, and the inputs that every export is checked with
program      torch.export, and ONNX, answered by onnxruntime
weights      the state_dict of the stock network of torchvision or timm
peft         PEFT's adapter folder, for the methods that PEFT has
export       which of these a file's name asks for
share        a folder for a model hub, with its card
"""

from madlab.exports.export import export_domain, export_run
from madlab.exports.share import share_run

__all__ = ["export_domain", "export_run", "share_run"]
