"""The page: one static web app, served by the same process as everything it talks to."""
