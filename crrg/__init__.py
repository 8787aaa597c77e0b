"""CRRG-CLIP: chest radiographs to draft reports and calibrated finding labels.

The library does all the work; ``tasks/`` wrap one call each and ``flows/`` order the tasks. Start with
``crrg.operations`` (what a person or a schedule asks for) and follow the imports downwards.
"""

__version__ = "0.1.0"
