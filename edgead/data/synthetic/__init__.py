"""Generated parts under an inspection camera, with the exact mask of every defect."""
