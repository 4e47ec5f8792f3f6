"""Where the files of videos are: the media directory, and the clips of the demo."""
