"""The engine: questions to answers, for every screen, script and process; knows no method."""
