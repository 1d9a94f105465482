"""What a config may say, and what it asks for."""

from rankdistil.config.resolvers import register

register()
