"""A blind test by people: real and generated pictures on a local page, and how often judges mistake them.

pictures     which pictures are shown, and that nothing but what they show tells them apart
answers      the judges' answers, kept as rows
results      error rates with intervals and tests
server       the page
"""
