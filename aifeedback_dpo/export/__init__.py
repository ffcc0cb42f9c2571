"""A judge's preferences, with their pictures, in the formats that other tools read: `ddpo export`."""
