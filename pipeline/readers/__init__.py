"""Plug-ins of this kind, enrolled by the import lines below."""

from pipeline.readers import bmp as bmp
from pipeline.readers import dicom as dicom
from pipeline.readers import hyperstack as hyperstack
from pipeline.readers import nifti as nifti
from pipeline.readers import npy as npy
from pipeline.readers import pillow as pillow
from pipeline.readers import png as png
from pipeline.readers import pnm as pnm
from pipeline.readers import raster as raster
from pipeline.readers import tiff as tiff
from pipeline.readers.recognise import identify as identify
from pipeline.readers.recognise import is_dicom as is_dicom
from pipeline.readers.recognise import known_suffixes as known_suffixes
from pipeline.readers.recognise import look as look
from pipeline.readers.recognise import named_reader as named_reader
from pipeline.readers.recognise import parts_beside as parts_beside
from pipeline.readers.recognise import why_no_image as why_no_image
