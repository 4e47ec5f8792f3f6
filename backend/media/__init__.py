"""The files of videos: the media directory, and the clips of the demo."""
