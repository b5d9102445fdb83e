"""Packaging: everything comes from settings.ini."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
onnx = cfg['onnx_requirements'].split()

setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    author_email=cfg['author_email'],
    url=cfg['git_url'],
    license='Apache-2.0',
    keywords=cfg['keywords'].split(),
    python_requires=f'>={cfg["min_python"]}',
    packages=find_packages(include=[f'{cfg["lib_name"]}*']),
    package_data={cfg['lib_name']: ['*.pyi']},
    install_requires=cfg['requirements'].split(),
    extras_require={'onnx': onnx, 'dev': cfg['dev_requirements'].split() + onnx},
    entry_points={'console_scripts': cfg['console_scripts'].splitlines()},
    zip_safe=False,
)
