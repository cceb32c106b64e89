"""Reports of evaluations, from their figures: html (write_report, write_comparison), charts (SVG), text (terminal)."""
