"""The node: questions and scenes in, decisions out by their deadlines, over whatever transport there is."""
