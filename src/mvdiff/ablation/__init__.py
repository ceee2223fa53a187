"""Ablations: variants × seeds under one budget, from the command line's words to the table.

`sweep` reads the words, `runs` names each run's folder, `mvdiff.launch` hands them to a launcher,
`cost` and `scoring` measure one run, `report`, `plots` and `sheet` put runs side by side. A
single run's way from config to result is `mvdiff.commands.ablate_run`.
"""
