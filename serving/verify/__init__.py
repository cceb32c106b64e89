"""Pictures and what they say of themselves: `salon verify`."""
