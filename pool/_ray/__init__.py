"""Ray's words: functions, classes and handles that users see."""
