"""Exchange: models go to other programs and come from them (nnU-Net, ONNX, MONAI Bundle), and labels stay the same."""
