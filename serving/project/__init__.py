"""Pictures as a generator's latents: `salon project`.

Public: project.project with request.ProjectRequest.
"""
