"""The pipeline: dataset, training, evaluation, curation, export and checks, stage by stage, from one file.

Public: PipelineFile and read (config), STAGES (stages), Pipeline and Record (runner); the pipeline's page (report) and
the demo's file (demo).
"""
