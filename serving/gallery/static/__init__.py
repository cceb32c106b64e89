"""The gallery as a folder of files that runs in a browser alone, without a server of Salon's.

Public: site.write, StaticGalleryRequest (request), runtime.find.
"""
