"""Video: clips and folders of frames derained, temporally fused, everything else copied."""
