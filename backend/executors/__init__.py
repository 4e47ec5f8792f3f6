"""The work itself: which job runs when (`inprocess`), and how a job's videos are worked through (`video_work`)."""
