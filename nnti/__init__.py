"""nnti: semantic segmentation for a course: ENet, data sets, joint augmentation, metrics, training and figures."""
