"""What silhouettes say about a scene: mattes, masks, the visual hull and its bounds."""
