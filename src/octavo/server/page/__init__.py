"""The web page: rooms to learn, to play, to look inside and to talk."""
