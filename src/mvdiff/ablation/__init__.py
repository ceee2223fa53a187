"""Ablations: variants × seeds under one budget, from the command line's words to the table.

`sweep` reads the words, `runs` names each run's folder, `mvdiff.config.launcher` hands them to a
launcher, `profiling` and `scoring` measure one run, `report`, `plots` and `contact_sheet` put runs
side by side. A
single run's way from config to result is `mvdiff.ablation.run_job`.
"""
