"""Generators and datasets for others: `salon card`, and `salon push` and `salon pull` of a Hugging Face Hub.

What is public: card.write, dataset_card.write, push.push and pull.pull, each with its request of serving.hub.request.
"""
