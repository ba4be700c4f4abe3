"""sem_search finds the transfer-learning settings that recognise materials in SEM micrographs.

Give it a folder of micrographs, one sub-folder per material. Importing this package loads no heavy library;
each room below it loads what it needs when it is entered. The way of the data, and with it the order of the rooms:

    micrographs -> transfer -> evaluation -> tracking -> audits -> deployment -> search -> cli
"""

__version__ = "0.1.0"
